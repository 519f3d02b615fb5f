"""What is checked in infra/, one subject a module.

Every check is a function of the repository's root (or of a copy of the parts that matter, in which the tests plant errors)
and returns what is wrong, one sentence each, beginning with the file.
"""
