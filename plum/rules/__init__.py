"""The language of rules that choose among items."""
