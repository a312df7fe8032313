"""What a model reads: its text config, chat templates, the token that is never steered (BOS), boundaries."""
