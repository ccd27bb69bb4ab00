"""What goes on around a training: callbacks, rows held out, what a stream leaves behind, warnings."""
