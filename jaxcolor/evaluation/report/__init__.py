"""The report of an evaluation: pictures, failure finder, contact sheet, one HTML page."""
