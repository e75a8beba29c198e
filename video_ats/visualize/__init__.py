"""Pictures and pages from arrays and text: patches, tiles in a sheet, data URIs, HTML. Knows no video, token or model.

- ``patches``: a frame with its dropped patches dimmed, or with the scores of its patches as colours.
- ``sheet``: labelled tiles in rows and columns under a title, as one picture.
- ``encode``: pictures to PNG, JPEG and data URIs.
- ``page``: a self-contained HTML page, its text escaped.
"""
