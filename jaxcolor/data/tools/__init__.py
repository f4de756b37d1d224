"""What commands do over whole data sets: pack, prepare, convert, count, draw."""
