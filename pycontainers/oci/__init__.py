"""What the OCI specifications say, free of any backend: references, compression, image configurations."""
