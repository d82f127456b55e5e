"""What an edit is, ways to find edits (one file each), what they do, and edits as files."""
