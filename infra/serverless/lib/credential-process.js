"use strict";

// The credential_process of botocore: prints what the plugin answers on a socket.

const { connect } = require("node:net");

connect(process.argv[2]).pipe(process.stdout);
