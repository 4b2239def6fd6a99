"""What makes a pipeline of processes: stages and their loop, owners of streams, the supervisor."""
