"""The networks: backbone, fusion, and the three of them together. Functional Flax modules."""
