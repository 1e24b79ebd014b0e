"""
Tells twistd that there is a `productionpacs`.
"""

from twisted.application.service import ServiceMaker

productionpacs = ServiceMaker(
    "Production PACS",
    "pacs.tap",
    "A DICOM archive: stores, finds and serves images.",
    "productionpacs",
)
