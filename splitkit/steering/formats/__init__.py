"""What lies in files: shipped models, hub models, GGUF, adapters, and the files of a saved intervention."""
