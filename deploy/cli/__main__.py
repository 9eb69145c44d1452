"""`python -m deploy.cli`: the same as `trimtab`, for child processes."""

from deploy.cli import main

main()
