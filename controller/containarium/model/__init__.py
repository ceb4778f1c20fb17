"""Pure types that every other layer speaks in. Imports nothing of ours from above."""
