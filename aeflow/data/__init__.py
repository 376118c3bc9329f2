"""From a source to prepared arrays: fetch, read, split, decode. No torch."""
