"""DynamoDB exports in S3: requested, awaited, read and verified; `stand_in` writes them for an emulator.

The format, from AWS's Developer Guide, "DynamoDB table export output format" (S3DataExport.Output)::

    PREFIX/AWSDynamoDB/ID/_started               empty: the bucket can be written, the export has begun
    PREFIX/AWSDynamoDB/ID/manifest-summary.json  written at the end
    PREFIX/AWSDynamoDB/ID/manifest-summary.md5
    PREFIX/AWSDynamoDB/ID/manifest-files.json    JSON lines, one for each data file
    PREFIX/AWSDynamoDB/ID/manifest-files.md5
    PREFIX/AWSDynamoDB/ID/data/NAME.json.gz      of a full export: JSON lines, {"Item": {...}}
    PREFIX/AWSDynamoDB/data/NAME.json.gz         of incremental exports, which share this folder

- There is at least one file for each partition; an empty partition gives an empty file.
- An incremental line has `Metadata.WriteTimestampMicros`, `Keys`, and by its kind: an insert `NewImage`, an update
  `NewImage` and `OldImage`, a delete `OldImage`; with the view NEW_IMAGE there is no `OldImage`. There is one line for
  each item, its final state; one that was inserted and deleted between the two moments has none.
- The guide names the checksums' files `.checksum`; exports carry `.md5`. Each holds the MD5 of the JSON file in base64,
  24 characters without a newline. In manifest-files.json `md5Checksum` is the MD5 of the compressed file in base64, and
  `etag` what S3 answered to its upload, in parts: MD5 of the parts' MD5s, "-", the number of parts. Checked against the
  manifests of a real export: its `etag` is the MD5 of the 16 bytes of its `md5Checksum`, and "-1".
- The guide's text shows `WriteTimestampMicros` as a string, exports have `{"N": "..."}`.
- An export is not transactionally consistent: a transaction may be torn between two exports (S3DataExport_Requesting).
"""
