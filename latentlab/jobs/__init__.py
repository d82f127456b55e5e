"""Jobs of the command line: pictures and files in, pictures, tables and pages out."""
