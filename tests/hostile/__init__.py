"""What hostile or broken peers, files and local users may send: nobody but themselves pays for it."""
