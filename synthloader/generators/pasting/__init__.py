"""What pasting consists of: cut-outs, what they are pasted onto, where and how, and the labels."""
