"""Nothing that comes in can hurt the broker: targets that take any bytes, and what makes bytes worth taking."""
