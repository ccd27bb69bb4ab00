"""The subcommands `fit` and `predict`: models that are learnt from files, saved, loaded and used."""
