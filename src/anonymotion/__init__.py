"""anonymotion: hide who is in a video and keep what they do."""
