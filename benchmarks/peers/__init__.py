"""What runs in the peers' own environment. These files import nothing of ours: JSON comes in on stdin, JSON goes out."""
