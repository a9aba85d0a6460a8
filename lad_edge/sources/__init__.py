"""A URI goes in; frames come out, each with its times, its source and, where there is no whole picture, the reason."""
