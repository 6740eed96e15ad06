"""Published methods as TFF processes, one file each."""
