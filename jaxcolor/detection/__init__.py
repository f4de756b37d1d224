"""Boxes for new photos: detectors behind one interface, and a run over many photos that can be killed and resumed."""
