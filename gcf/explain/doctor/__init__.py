"""`gcf doctor`: does gcf work here, and are a network's weights fed the pixels that they were trained on?"""
