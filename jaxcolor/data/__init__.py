"""From photos and boxes to batches: scenes and folders, decoding and cropping, and the order in which they come."""
