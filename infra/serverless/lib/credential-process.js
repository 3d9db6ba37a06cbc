"use strict";

// What botocore starts for credentials: it passes on what the plugin answers at a socket.

const { connect } = require("node:net");

connect(process.argv[2]).pipe(process.stdout);
