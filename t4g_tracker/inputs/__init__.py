"""Reading what users give: videos, folders of frames, masks, query points."""
