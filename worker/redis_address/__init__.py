"""Where Redis is: the parser of its URL, for all the programs that read one."""
