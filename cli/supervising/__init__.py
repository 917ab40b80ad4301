"""The processes of `find` and `up`: started, restarted, stopped, and shown."""
