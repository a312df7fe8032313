"""What a model reads: settings of its text config, special tokens, chat templates, boundaries."""
