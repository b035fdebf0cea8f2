"""RSS: all tables that ethtool can write are set, all that there may be come back; keys."""
