/* SPDX-License-Identifier: MIT */
#ifndef IOLAB_MIME_H
#define IOLAB_MIME_H

/* Media type for a file name's ending; application/octet-stream when it is not known. */
const char *mime_type(const char *path);

#endif
