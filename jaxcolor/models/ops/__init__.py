"""How each layer is computed fast, behind one plain definition; README.md has the table."""
