"""Input from outside cannot hurt the broker: targets that take any bytes, and generators of bytes worth trying."""
