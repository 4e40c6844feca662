"""The backends of this distribution; each is reached by its entry point alone."""
