"""Campaign files in, served campaigns out.

source.py    reads and checks files     strict_yaml.py   YAML without surprises
served.py    a campaign, ready to decide with           loader.py   loads, reloads, replaces models
summary.py   what a file will do, in words              changes.py  what a reload did
file_warnings.py   what is odd about a valid file    schema.py   the JSON Schemas of the files
announcements.py   what people hear of it    model_opening.py   where a file's models come from
"""
