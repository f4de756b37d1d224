"""Photos in, colored photos out."""
