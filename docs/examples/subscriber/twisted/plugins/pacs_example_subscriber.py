"""
Tells Production PACS that there is a subscriber.
"""

from pacs_example_subscriber.listing import Listing

listing = Listing()
