"""The demo model: its tokenizer, tasks, training, weights and growth. Run the parts as `python -m demo.train`."""
