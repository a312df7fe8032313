"""Out of splitkit and into it: files of other tools, cards, and transformers' Trainer."""
