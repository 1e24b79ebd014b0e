The server stores objects of every storage SOP class and transfer syntax as sent, acknowledges them when they would survive a power cut, and answers C-ECHO and C-FIND at all four levels.
