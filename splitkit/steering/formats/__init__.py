"""What GGUF files and adapters' folders need before `models` loads a model from them."""
