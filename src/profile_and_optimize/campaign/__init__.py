"""Plan, run, resume: admission of arms, blocks of sessions, trials written as they happen."""
