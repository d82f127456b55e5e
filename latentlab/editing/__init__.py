"""Ways to find directions of attributes, one file each."""
