"""The nouns and contracts that every other room speaks in. Imports nothing of Lifechart but itself.

Read in this order: `errors`, `timeline`, `forecast`, `answer`, `report`, `capability`, then `plugs`, `settings` and
`durable` (how a file is written so that it is whole or absent).
"""
