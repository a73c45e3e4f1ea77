"""What we talk about: values checked at birth, frozen, standard library only."""
