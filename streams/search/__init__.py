"""The index of the search stage: kept in step with the log, saved, followed by spares."""
