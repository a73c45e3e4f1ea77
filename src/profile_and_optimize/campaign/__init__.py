"""Plan, run, resume: admission of arms, blocks of sessions, trials written as they happen."""

PRODUCER = "campaign"  # who wrote the evidence files of this room, in journal and manifest
