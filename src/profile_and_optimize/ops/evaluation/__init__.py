"""What `pao evaluate` is made of: who is asked, what is written down, whose fault it is when nothing comes of it."""
