"""What everything runs on: devices, compilation, errors, files that appear whole or not at all, locks."""
