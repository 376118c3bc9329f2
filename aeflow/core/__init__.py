"""What every room stands on: errors, files, receipts, the runner of scripts. Shapes no number."""
