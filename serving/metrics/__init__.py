"""What is counted, and how it is read back.

meters          what there is to count
tally           what is counted and not written yet
shared_counts   where the processes of a server count together
scrape          all of it, as Prometheus reads it
statistics      the same, as the Open Inference Protocol has it
"""
